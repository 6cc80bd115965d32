"""ssl_suite: self-supervised learning across text, DNA, protein, music, images and speech.

Importing the package imports nothing heavy; every command loads what it needs.
"""

__version__ = "0.1.0"
