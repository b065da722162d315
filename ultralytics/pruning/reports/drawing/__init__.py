"""How a report looks: the page and its pictures, or Markdown. All text is escaped here, in one place."""
