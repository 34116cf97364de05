"""What inference costs: devices, models, servers, and the budgets of a response."""
