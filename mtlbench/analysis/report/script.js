"use strict";
// The page reads well without this script: it adds sorting, filters and values on hover.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

// --- sorting ------------------------------------------------------------------------------------

function sortBy(table, header) {
  const button = one("button", header);
  const kind = button.dataset.sort;
  const first = kind === "max" ? "descending" : "ascending";
  const last = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? last : first;
  all("[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", order);
  const column = header.cellIndex;
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.v;
  for (const body of table.tBodies) {
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      if (kind === "text") return sign * x.localeCompare(y, "en", { numeric: true });
      // What has no number stays last in either order, as do incomplete strategies.
      const unknown = (x === "") - (y === "");
      const partial = a.classList.contains("incomplete") - b.classList.contains("incomplete");
      return partial || unknown || sign * (x - y);
    });
    body.append(...rows);
  }
}

for (const table of all("table.sortable")) {
  for (const button of all("th button", table)) {
    button.addEventListener("click", () => sortBy(table, button.closest("th")));
  }
}

// --- leaderboard --------------------------------------------------------------------------------

const filters = one("#filters");
if (filters) {
  const bodies = [...one("#board").tBodies];
  const notes = all("#leaderboard ul.notes");
  const chosen = (name) => filters.elements[name]?.value ?? bodies[0].dataset[name];
  const matches = (element, suite, variant, stage) =>
    element.dataset.suite === suite && element.dataset.variant === variant && element.dataset.stage === stage;
  const exists = (...choice) => bodies.some((body) => matches(body, ...choice));

  const offer = (name, choice) => {
    const select = filters.elements[name];
    if (!select) return;
    for (const option of select.options) {
      option.hidden = option.disabled = !exists(...choice(option.value));
    }
    if (select.selectedOptions[0].disabled) select.value = "";
  };

  const update = () => {
    offer("variant", (variant) => [chosen("suite"), variant, ""]);
    offer("stage", (stage) => [chosen("suite"), chosen("variant"), stage]);
    const choice = [chosen("suite"), chosen("variant"), chosen("stage")];
    const wanted = filters.elements.search.value.trim().toLowerCase();
    let shown = 0, total = 0;
    for (const body of bodies) {
      body.hidden = !matches(body, ...choice);
      if (body.hidden) continue;
      for (const row of body.rows) {
        const text = `${row.dataset.label} ${row.dataset.key}`.toLowerCase();
        row.hidden = !text.includes(wanted);
        total += 1;
        shown += !row.hidden;
      }
    }
    for (const list of notes) list.hidden = !matches(list, ...choice);
    one("#count").textContent =
      shown === total ? `${total} strategies` : `${shown} of ${total} strategies`;
  };
  filters.addEventListener("input", update);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = false;
  update();
}

// --- suites -------------------------------------------------------------------------------------

for (const suite of all("section.suite")) {
  const form = one("form.controls", suite);
  const blocks = all(".variant", suite);
  const stages = new Map(all("tr[data-stage]", suite).map((row) => [row.dataset.label, row.dataset.stage]));
  const present = new Set(stages.values());
  const select = form.elements.stage;
  for (const option of [...select.options]) {
    if (option.value && !present.has(option.value)) option.remove();
  }
  if (select.options.length < 3) select.closest("label").remove();
  const update = () => {
    const variant = form.elements[suite.id]?.value ?? "";
    const stage = select.value;
    const out = (label) => Boolean(stage) && stages.get(label) !== stage;
    for (const block of blocks) block.hidden = Boolean(variant) && block.id !== variant;
    for (const row of all("tr[data-label]", suite)) row.hidden = out(row.dataset.label);
    for (const mark of all(".mark, .series", suite)) {
      mark.classList.toggle("out", stages.has(mark.dataset.label) && out(mark.dataset.label));
    }
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();

  // A strategy of the legend stands out in all charts while pointed at, or until pressed again.
  let pinned = "";
  const emphasise = (label) => {
    for (const mark of all(".mark, .series", suite)) {
      mark.classList.toggle("hot", Boolean(label) && mark.dataset.label === label);
      mark.classList.toggle("cold", Boolean(label) && mark.dataset.label !== label && stages.has(mark.dataset.label));
    }
  };
  const buttons = all(".legend button", suite);
  for (const button of buttons) {
    const label = button.dataset.label;
    button.addEventListener("pointerenter", () => emphasise(label));
    button.addEventListener("pointerleave", () => emphasise(pinned));
    button.addEventListener("click", () => {
      pinned = pinned === label ? "" : label;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.label === pinned));
      emphasise(pinned);
    });
  }
}

// --- values on hover ----------------------------------------------------------------------------

const tip = one("#tip");

function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x + 12), document.documentElement.clientWidth - width - 8);
  const top = y - height - 12 > 4 ? y - height - 12 : y + 18;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

function hideTip() {
  tip.hidden = true;
  all("svg .hot.pointed").forEach((mark) => mark.classList.remove("hot", "pointed"));
  all("svg .pointer").forEach((pointer) => pointer.remove());
}

function point(mark) {
  all("svg .hot.pointed").forEach((other) => other.classList.remove("hot", "pointed"));
  if (!mark.classList.contains("hot")) mark.classList.add("hot", "pointed");
}

const numbers = (text) => (text ? text.split(" ").map(Number) : []); // "n" becomes NaN

// What a chart shows, as points with a place in its own units and a text.
function pointsOf(chart) {
  const marks = all(".mark, .series", chart);
  if (chart.dataset.kind === "dots") {
    return marks.map((mark, row) => {
      const dot = one("circle", mark);
      return [{ mark, row, column: 0, x: +dot.getAttribute("cx"), y: +dot.getAttribute("cy"), text: mark.text }];
    });
  }
  const [x0, x1, left, right, y0, y1, bottom, top, log] = numbers(chart.dataset.axes);
  const scale = log ? Math.log : (value) => value;
  const xs = numbers(chart.dataset.x);
  return marks.map((mark, row) => {
    const low = numbers(mark.dataset.low), high = numbers(mark.dataset.high);
    return numbers(mark.dataset.y).map((value, column) => {
      const range = Number.isFinite(low[column]) ? ` (${low[column]} to ${high[column]})` : "";
      return {
        mark, row, column,
        x: left + ((xs[column] - x0) / (x1 - x0)) * (right - left),
        y: bottom + ((scale(value) - scale(y0)) / (scale(y1) - scale(y0))) * (top - bottom),
        text: `${mark.dataset.label}: ${value}${range} at ${chart.dataset.name} ${xs[column]}`,
      };
    }).filter((at) => Number.isFinite(at.y));
  }).filter((row) => row.length);
}

for (const chart of all("figure.chart svg")) {
  for (const mark of all(".mark, .series", chart)) {
    const title = one("title", mark);
    mark.text = title.textContent;
    title.remove(); // the browser's own tooltip would cover ours
  }
  let rows = null; // made when first pointed at
  let at = null;
  const rowsOf = () => (rows ??= pointsOf(chart));

  const show = (found) => {
    at = found;
    point(found.mark);
    all(".pointer", chart).forEach((pointer) => pointer.remove());
    if (chart.dataset.kind === "curves") {
      const pointer = document.createElementNS(chart.namespaceURI, "circle");
      pointer.setAttribute("class", "pointer");
      pointer.setAttribute("cx", found.x);
      pointer.setAttribute("cy", found.y);
      pointer.setAttribute("r", 3.5);
      found.mark.append(pointer);
    }
    const place = new DOMPoint(found.x, found.y).matrixTransform(chart.getScreenCTM());
    showTip(found.text, place.x, place.y);
  };

  const nearest = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    // In a chart of dots a row counts; on curves the epoch first, then the curve.
    const across = chart.dataset.kind === "dots" ? 0 : 4;
    let best = null, least = Infinity;
    for (const candidate of rowsOf().flat()) {
      if (candidate.mark.classList.contains("out")) continue;
      const distance = across * Math.abs(candidate.x - place.x) + Math.abs(candidate.y - place.y);
      if (distance < least) [best, least] = [candidate, distance];
    }
    return best;
  };

  const follow = (event) => {
    const found = nearest(event);
    if (found) show(found);
  };
  chart.addEventListener("pointermove", follow);
  chart.addEventListener("pointerdown", follow);
  chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideTip());
  chart.addEventListener("blur", hideTip);
  chart.addEventListener("focus", () => {
    if (!chart.matches(":focus-visible")) return;
    const points = rowsOf();
    if (points.length) show(at ?? points[points.length - 1].at(-1));
  });
  chart.addEventListener("keydown", (event) => {
    const points = rowsOf();
    if (event.key === "Escape") return hideTip();
    if (!points.length || !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    let row = points.findIndex((several) => several.includes(at));
    if (row < 0) row = points.length - 1;
    let column = Math.max(0, points[row].indexOf(at));
    if (event.key === "ArrowUp") row = Math.max(0, row - 1);
    if (event.key === "ArrowDown") row = Math.min(points.length - 1, row + 1);
    if (event.key === "ArrowLeft") column -= 1;
    if (event.key === "ArrowRight") column += 1;
    show(points[row][Math.min(Math.max(0, column), points[row].length - 1)]);
  });
}
document.addEventListener("scroll", hideTip, { passive: true });
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("figure.chart svg")) hideTip();
});

// --- copying and printing -----------------------------------------------------------------------

for (const button of all("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = one("code", button.parentElement);
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected"; // a page opened from a file may not write to the clipboard
    }
  });
}
addEventListener("beforeprint", () => all("details").forEach((details) => (details.open = true)));
