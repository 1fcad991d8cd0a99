"""Fine-tunes the checkpoint; a killed training goes on where it was and ends with the same bytes."""
