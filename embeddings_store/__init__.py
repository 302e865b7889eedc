"""Ground floor: what an embedding is, where it lies, and whether it is complete.

No torch, no boto3, no scikit-learn: a store opens in a second on a laptop.
"""
