"""How good a mask is: overlap, surface distance, and the table that shows them. Arrays and geometry only, no torch."""
