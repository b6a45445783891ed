"""`tagstream demo`: the whole system on real parts, told step by step, and checked at the end."""
