"""How cost grows: sweeps, exponents, exact polynomials."""
