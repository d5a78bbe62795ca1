"""Many runs: planning, jobs of SLURM or of this machine, tables."""
