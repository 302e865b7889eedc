"""Bucket -> volumes -> encoder -> store. Console scripts: extract-embeddings and oct-phantom."""
