"""Running a stage: the run folder, the trainers, progress, and the steps from start to COMPLETE."""
