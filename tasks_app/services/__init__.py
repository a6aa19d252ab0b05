"""The verbs that people use. Each checks rights, applies the rules, writes the audit entry and nudges, once."""
