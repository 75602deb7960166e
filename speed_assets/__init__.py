"""SPEED as a Dagster asset graph: small aligned models write the data, gates decide what is released."""
