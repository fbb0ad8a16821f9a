"""What is right by mathematics alone: enumeration, float64, scipy, any tree, text or order. A file is one noun."""
