"""What tests use to stand for the outside world."""
