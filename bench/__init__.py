"""What `make bench` runs: imgservice beside the limits of the machine it runs on."""
