"""What a run needs before anything is computed: memory, disk, time, and the preflight that checks it."""
