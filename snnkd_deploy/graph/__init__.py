"""The one graph: a NIR file plus our profile (what NIR cannot say). Files in and out."""
