"""How many run at once: rows -> segments -> plan -> hooks on the frozen backbone."""
