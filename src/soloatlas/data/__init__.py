"""What is read and written: volumes, label tables, studies, cohorts (no torch here)."""
