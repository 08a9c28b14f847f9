"""How the web page looks: on a screen, on a phone, in the dark and on paper."""

# A verdict has a sign and a border of its own besides its colour.
CSS = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fff; --soft: #5a5a60;
  --line: #d5d5da; --shade: #f5f5f7; --link: #0b57a4;
  --holds: #17643a; --fails: #a01818; --undecided: #765000; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --paper: #17171a;
  --soft: #a9a9b2; --line: #3b3b42; --shade: #222227; --link: #8ab8f0;
  --holds: #7fd3a0; --fails: #ff9a94; --undecided: #eac274; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.25rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h2 { margin-top: 3rem; border-top: 2px solid var(--line); padding-top: 1rem; }
h3 { margin-top: 2.5rem; }
a { color: var(--link); }
p { max-width: 46rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: var(--shade); border: 1px solid var(--line); padding: .6rem .8rem;
  white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
thead th { background: var(--shade); }
tbody th { font-weight: normal; }
.number { text-align: right; white-space: nowrap; }
tr.sum > * { font-weight: bold; border-top: 2px solid var(--line); }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; background: #fff; }
.claim { font-size: 1.1rem; }
.reference, .facts, figcaption { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; margin: 0 0 1rem; }
.facts dt { display: inline; }
.facts dt::after { content: ": "; }
.facts dd { display: inline; margin: 0; color: var(--ink); }
.verdict { font-weight: bold; white-space: nowrap; padding: 0 .4rem; border: 2px solid; }
.holds { color: var(--holds); border-style: solid; }
.fails { color: var(--fails); border-style: double; border-width: 4px; }
.undecided { color: var(--undecided); border-style: dashed; }
@media (max-width: 44rem) {
  body { padding: .75rem .9rem 3rem; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  table, tbody { display: block; }
  tr { display: block; padding: .7rem 0; border-bottom: 1px solid var(--line); }
  tr > *, tr.sum > * { display: block; border: 0; padding: .1rem 0; }
  .counts td { display: inline-block; padding-right: .9rem; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
}
@page { margin: 1.5cm; }
@media print {
  :root { --ink: #000; --paper: #fff; --soft: #333; --line: #999; --shade: #fff;
    --link: #000; --holds: #000; --fails: #000; --undecided: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  img { max-height: 18cm; width: auto; }
}
"""
