"""Laws: what is right by mathematics alone - by enumeration, in float64, by scipy, over every input hypothesis draws. A file is a noun."""
