"""`python -m deploy.grafana`: write the boards for Grafana, and the page about them."""

from deploy.grafana.files import DASHBOARDS, ROOT, files

made = files()
for old in (ROOT / DASHBOARDS).glob("*.json"):
    if old.relative_to(ROOT) not in made:
        old.unlink()  # a board that is no more would still be provisioned
for path, text in made.items():
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / path).write_text(text)
