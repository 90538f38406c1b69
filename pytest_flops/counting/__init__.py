"""What things cost: counts, workloads and their builders, the meter and its cost table."""
