"""What each command of `chorus` does: `serving.cli` declares the arguments, these modules act and print."""
