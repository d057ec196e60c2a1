"""Rules that the operator's policy files override, decided as oslo.policy decides them."""
