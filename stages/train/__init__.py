"""Fine-tunes the checkpoint; a killed training resumes where it was and ends with the same bytes."""
