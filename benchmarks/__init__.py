"""The benchmark: measures Foyer as people run it, beside what it is compared with."""
