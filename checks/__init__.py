"""Commands around the DAG; they read what the stages wrote, and no stage depends on them."""
