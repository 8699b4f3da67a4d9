"""The module by which sop4py 2 is known."""
