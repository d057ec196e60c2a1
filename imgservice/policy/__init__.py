"""Who may do what: the default rules, and policy files that mean what they mean to oslo.policy."""
