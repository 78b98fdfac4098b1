"""Detector architectures: one file each; `detectors.registry` lists them."""
