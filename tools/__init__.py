"""What runs, sets up and checks Foyer; none of it is part of the product."""
