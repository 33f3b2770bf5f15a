"""Fine dust in the air of Beijing, hour by hour, from the weather."""
