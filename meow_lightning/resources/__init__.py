"""What models cost: memory, floating-point operations, disk; and what this machine has."""
