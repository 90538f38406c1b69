"""What things cost: counts, the analytic counter, the meter and its cost table."""
