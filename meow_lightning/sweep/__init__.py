"""Sweeps: planning, jobs on SLURM or this machine, summary tables."""
