"""M3LLM's experts over the Model Context Protocol: servers, and a client of several."""
