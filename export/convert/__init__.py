"""Policies that were trained by other programs, as bundles. One folder for each foreign format.

Nothing foreign is imported or run: a configuration and tensors are read, never a pickle.
"""
