"""The style sheet of the HTML pages: light or dark as the reader's system asks."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2330; --dim: #5b6575;
  --line: #dfe3ea; --accent: #2458c5; --raw: #a9bce6; --good: #14713d; --bad: #b3261e;
  --good-fill: #35a468; --bad-fill: #dd5b50; --tag: #e9eef9; --tag-ink: #3c4f7d; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12151b; --card: #1b2029; --ink: #e4e8ef; --dim: #98a3b5; --line: #303845;
    --accent: #8cb0ff; --raw: #3f5484; --good: #6fd39a; --bad: #ff9187; --good-fill: #2f8f5b;
    --bad-fill: #c14d43; --tag: #28324a; --tag-ink: #b3c4ee; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 12px; }
h3 { font-size: 15px; margin: 0; }
figure, dl, dd { margin: 0; }
.dim, .none, figcaption { color: var(--dim); }
.better, .right { color: var(--good); }
.worse, .wrong { color: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(135px, 1fr));
  gap: 14px 20px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px 18px; }
.facts dt { color: var(--dim); font-size: 12.5px; }
.facts dd { font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.curves { display: flex; flex-wrap: wrap; gap: 16px; }
.curves figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; min-width: 0; }
.curves .wide { flex: 16 1 460px; }
.curves .side { flex: 9 1 270px; }
.curves svg { display: block; width: 100%; max-height: 330px; overflow: visible; }
.curves svg text { font-family: inherit !important; fill: currentColor; }
figcaption { font-size: 12.5px; margin-top: 4px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 14px; white-space: nowrap; font-weight: 400; }
thead th { color: var(--dim); font-size: 12.5px; }
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: 600; }
.num { text-align: right; }
.value { font-weight: 600; }
.bar { display: inline-block; position: relative; width: 130px; height: 9px; border-radius: 3px;
  background: linear-gradient(var(--dim), var(--dim)) center / 1px 100% no-repeat, var(--line);
  overflow: hidden; vertical-align: middle; }
.fill { position: absolute; top: 0; bottom: 0; }
.fill.better { background: var(--good-fill); }
.fill.worse { background: var(--bad-fill); }
.share { margin-left: 9px; font-size: 12.5px; }
.scroll + p { font-size: 12.5px; max-width: 80ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr));
  gap: 16px; align-items: start; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; min-width: 0; }
article header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 10px;
  margin-bottom: 10px; }
.right, .wrong { font-size: 13px; font-weight: 600; }
.id { color: var(--dim); font-size: 12.5px; overflow-wrap: anywhere; margin-left: auto; }
.clip { margin-bottom: 10px; }
.clip img { display: block; width: 100%; height: 104px; border-radius: 6px 6px 0 0; }
.clip audio { display: block; width: 100%; height: 36px; margin-top: 4px; }
.axis { position: relative; height: 20px; font-size: 11px; color: var(--dim);
  font-variant-numeric: tabular-nums; }
.axis span { position: absolute; border-left: 1px solid var(--dim); padding: 3px 0 0 3px;
  line-height: 1.2; }
.axis .end { transform: translateX(-100%); border-left: 0; border-right: 1px solid var(--dim);
  padding: 3px 3px 0 0; }
.texts { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 5px 12px; }
.texts dt { color: var(--dim); font-size: 12.5px; line-height: 1.8; }
.texts dd { overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: isolate;
  max-height: 15em; overflow-y: auto; }
.texts dd:last-child { font-weight: 600; }
.tag { font: 11.5px/1.5 ui-monospace, Consolas, "DejaVu Sans Mono", monospace; font-weight: 400;
  background: var(--tag); color: var(--tag-ink); border-radius: 4px; padding: 1px 3px; }
@media (max-width: 640px) {
  main { padding: 12px 12px 32px; }
  th, td { padding: 7px 5px; white-space: normal; overflow-wrap: break-word; }
  .num { white-space: nowrap; }
  table { font-size: 13px; }
  th:nth-child(5), td:nth-child(5) { display: none; }
  .curves .wide svg text { font-size: 14px !important; }
}
mark { background: color-mix(in srgb, var(--good) 20%, transparent); color: inherit;
  font-weight: 600; border-radius: 4px; padding: 1px 2px; }
.texts.rendered dd { font-weight: 400; }
@media print { article, .curves figure { break-inside: avoid; } }
"""
