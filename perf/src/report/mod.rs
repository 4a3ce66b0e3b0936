//! Shows results: as tables, Markdown, one page of HTML, and as the difference of two runs.
