"""SYNTHETIC PHANTOM: an AI-READI-shaped bucket of made-up retinal OCT, for demos, tests and benchmarks.

Values come from public papers only; nothing here is fitted to any participant's data.
"""
