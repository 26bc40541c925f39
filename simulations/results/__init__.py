"""What runs give: tables, pictures, a report, and how two of them differ."""
