"use strict";
// Gallery: cards are made a page at a time and drawn when they come into view; a slider redraws those in view.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 24, MAP_SIDE = 28, NOT_COUNTED = 127, UNKNOWN = 126;
const at = data.runs.map((run) => run.start);
const control = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// What one run says about one image at its threshold: verdict, IoU and the box in the frame.
function reading(image, run) {
  const look = image.looks[run];
  if (!look) return null;
  if (!look.read) {
    const raw = bytes(look.boxes);
    look.read = { boxes: look.wide ? new Uint16Array(raw.buffer) : raw, verdicts: bytes(look.verdicts) };
  }
  const step = Math.min(at[run], look.read.verdicts.length - 1);
  const verdict = look.read.verdicts[step], box = look.read.boxes.subarray(4 * step, 4 * step + 4);
  const missing = box[0] === (look.wide ? 65535 : 255);
  const known = verdict !== UNKNOWN && verdict !== NOT_COUNTED;
  return {
    box: missing ? null : box,
    hit: known ? verdict >= 128 : null,
    iou: known ? (verdict % 128) / 100 : NaN,
    words: verdict === UNKNOWN ? "" : verdict === NOT_COUNTED ? "left out" : verdict >= 128 ? "hit" : "miss",
  };
}

// An image's id, with its split where two on this page have that id: as a review names it.
const named = (image) => image.review ?? image.id;

const frames = [...new Set(data.runs.map((run) => run.frame))];
const shownRuns = () => data.runs.map((_, run) => run).filter((run) => data.runs[run].frame === control("frame").value);
const judge = () => Number(control("judge").value);

function fillControls() {
  for (const frame of frames) control("frame").add(new Option(`${data.frames[frame]} (${frame})`, frame));
  data.classes.forEach((name, label) => {
    if (data.images.some((image) => image.label === label)) control("class").add(new Option(name, label));
  });
  frameChanged();
}

function frameChanged(by) {
  const runs = shownRuns(), sliders = control("sliders");
  control("judge").replaceChildren(...runs.map((run) => new Option(data.runs[run].name, run)));
  if (by !== undefined) control("judge").value = by;
  sliders.replaceChildren();
  for (const run of runs) {
    const fields = data.runs[run], label = element("label");
    const slider = element("input", "", { type: "range", min: 0, max: fields.thresholds.length - 1, step: 1, "data-run": run,
                                          "aria-label": `threshold of ${fields.name}` });
    slider.value = at[run];
    slider.disabled = fields.thresholds.length < 2;
    const name = element("span");
    name.append(swatch(run), fields.name);
    label.append(name, element("output", "", { "data-run": run }), slider);
    sliders.append(label);
    tell(run);
  }
  const width = Math.min(1200, 20 + 165 * runs.length);
  control("cards").style.setProperty("--card-width", `${Math.max(300, width)}px`);
  refill();
}

// A run's colour, as in the plots.
const swatch = (run) => {
  const place = data.runs[run].colour % 8, again = Math.floor(data.runs[run].colour / 8) % 2;
  return element("i", "", { class: `swatch own run${place}${again ? " again" : ""}`, "aria-hidden": "true" });
};

// A run's threshold, and its hits among all images, those without a picture too.
function tell(run) {
  const fields = data.runs[run], step = at[run], threshold = fields.thresholds[step];
  const words = fields.protocol
    ? `${fields.source === "stored" ? "boxes as stored" : threshold.toFixed(3)}: ${fields.hits[Math.min(step, fields.hits.length - 1)]} of ${fields.counted[Math.min(step, fields.counted.length - 1)]} hit`
    : "no ground truth";
  const from = step === fields.start && fields.protocol && fields.source !== "stored" ? ` (${fields.source})` : "";
  const output = control("sliders").querySelector(`output[data-run="${run}"]`);
  if (output) output.textContent = words + from;
  const slider = control("sliders").querySelector(`input[data-run="${run}"]`);
  if (slider) slider.setAttribute("aria-valuetext", words);
}

let chosen = [], shown = 0;

function refill() {
  const by = judge(), runs = shownRuns(), outcome = control("outcome").value, find = control("find").value.toLowerCase();
  const wanted = (image) => {
    if (control("class").value !== "" && image.label !== Number(control("class").value)) return false;
    if (find && !image.id.toLowerCase().includes(find)) return false;
    if (outcome === "differ") return new Set(runs.filter((run) => image.looks[run]).map((run) => reading(image, run).hit)).size > 1;
    const hit = reading(image, by)?.hit;
    return outcome === "all" || (outcome === "hit" ? hit === true : hit === false);
  };
  chosen = data.images.filter(wanted);
  const order = control("order").value;
  if (order === "unsure") {
    const sure = new Map(chosen.map((image) => [image, sureness(image)]));
    chosen.sort((one, other) => sure.get(one) - sure.get(other));
  } else if (order !== "data") {
    const sign = order === "worst" ? 1 : -1, score = (image) => reading(image, by)?.iou ?? NaN;
    const rank = (image) => (Number.isNaN(score(image)) ? 2 : sign * score(image));
    chosen.sort((one, other) => rank(one) - rank(other));
  }
  shown = 0;
  control("cards").replaceChildren();
  control("count").textContent = `${chosen.length} of ${data.images.length} pictured images`;
  more();
}

// How far an image's boxes are to be believed without knowing the true one: a low score of its class, no box, a box that
// reaches the frame's edge, a second region as large as the first, and runs that disagree make it less.
function sureness(image) {
  const looks = shownRuns().filter((run) => image.looks[run]).map((run) => ({ run, box: reading(image, run).box }));
  let sure = looks.length ? 1 : 0;
  for (const { run, box } of looks) {
    const [, , , , width, height] = image.looks[run].frame;
    sure *= image.looks[run].score ?? 1;
    if (!box) return 0;
    sure *= 1 - 0.5 * (image.looks[run].rival ?? 0);
    if (box[0] === 0 || box[1] === 0 || box[2] >= width - 1 || box[3] >= height - 1) sure *= 0.5;
  }
  for (const one of looks) for (const other of looks) if (one.run < other.run) sure *= overlap(one.box, other.box);
  return sure;
}

function overlap(one, other) {
  const side = (low, high) => Math.max(0, Math.min(one[high], other[high]) - Math.max(one[low], other[low]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]), both = side(0, 2) * side(1, 3);
  return both / (area(one) + area(other) - both || 1);
}

function more() {
  for (const image of chosen.slice(shown, shown + PAGE)) control("cards").append(card(image));
  shown = Math.min(chosen.length, shown + PAGE);
  control("more").hidden = shown >= chosen.length;
}

function card(image) {
  const figure = element("figure", "", { class: "card" }), looks = element("div", "", { class: "looks" });
  const title = element("figcaption", `${data.classes[image.label]}: ${named(image)}`);
  if (control("reviewing").checked) title.append(dropButton(image, figure));
  figure.classList.toggle("dropped", dropped.has(named(image)));
  figure.append(title, looks);
  for (const run of shownRuns()) {
    if (!image.looks[run]) continue;
    const look = element("div", "", { class: "look", "data-run": run });
    const canvas = element("canvas", "", { role: "img", tabindex: 0, "aria-label": `${image.id} under ${data.runs[run].name}` });
    canvas.addEventListener("click", () => enlarge(image));
    canvas.addEventListener("keydown", (event) => { if (event.key === "Enter") enlarge(image); });
    look.append(canvas, element("div"));
    looks.append(look);
  }
  figure.image = image;
  inView.observe(figure);
  return figure;
}

const visible = new Set();
const inView = new IntersectionObserver((changes) => {
  for (const change of changes) {
    if (!change.isIntersecting) { visible.delete(change.target); continue; }
    visible.add(change.target);
    draw(change.target);
  }
}, { rootMargin: "300px" });

async function photograph(image) {
  if (!image.loaded) {
    image.loaded = new Image();
    image.loaded.src = image.picture;
  }
  await image.loaded.decode();
  return image.loaded;
}

async function draw(figure) {
  const image = figure.image, photo = await photograph(image);
  for (const look of figure.querySelectorAll(".look")) {
    const run = Number(look.dataset.run), said = reading(image, run);
    paint(look.firstChild, photo, image, image.looks[run], said, control("heat").checked ? 0.55 : 0);
    caption(look.lastChild, image, image.looks[run], run, said);
  }
}

function caption(line, image, look, run, said) {
  const verdict = element("span", said.words, { class: said.words });
  const iou = Number.isNaN(said.iou) ? "" : `, IoU ${said.iou.toFixed(2)}`;
  const wrong = look.predicted !== null && look.predicted !== image.label;
  const taken = wrong ? `, taken for ${data.classes[look.predicted] ?? `class ${look.predicted}`}` : "";
  line.replaceChildren(swatch(run), element("b", data.runs[run].name), document.createTextNode(" "), verdict, document.createTextNode(iou + taken));
  const place = said.box ? `box ${Array.from(said.box).join(" ")} in the frame` : "no box";
  line.previousSibling.setAttribute("aria-label", `${image.id} under ${data.runs[run].name}: ${said.words}${iou}, ${place}`);
  line.parentNode.dataset.box = said.box ? Array.from(said.box).join(" ") : "";
}

function paint(canvas, photo, image, look, said, opacity) {
  const width = (canvas.width = photo.naturalWidth), height = (canvas.height = photo.naturalHeight);
  const pen = canvas.getContext("2d"), [resizedWidth, resizedHeight, x, y, w, h] = look.frame;
  const inPicture = (box) => [(box[0] + x) * width / resizedWidth, (box[1] + y) * height / resizedHeight,
                              (box[2] + x) * width / resizedWidth, (box[3] + y) * height / resizedHeight];
  pen.drawImage(photo, 0, 0);
  const [left, top, right, bottom] = inPicture([0, 0, w, h]);
  if (opacity && look.map) {
    pen.globalAlpha = opacity;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(heat(look), left, top, right - left, bottom - top);
    pen.globalAlpha = 1;
  }
  pen.fillStyle = "rgba(90,90,90,.6)";
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.rect(left, top, right - left, bottom - top);
  pen.fill("evenodd");
  const scaleX = width / image.size[0], scaleY = height / image.size[1];
  for (const [x0, y0, x1, y1] of image.truth) outline(pen, [x0 * scaleX, y0 * scaleY, x1 * scaleX, y1 * scaleY], "#5ae65a");
  if (said.box) outline(pen, inPicture(said.box), "#ffb000");
}

function outline(pen, [x0, y0, x1, y1], colour) {
  for (const [style, thick] of [["#000", 4], [colour, 2]]) {
    pen.strokeStyle = style;
    pen.lineWidth = thick;
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

function heat(look) {
  if (!look.heat) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = MAP_SIDE;
    const pen = canvas.getContext("2d"), pixels = pen.createImageData(MAP_SIDE, MAP_SIDE);
    bytes(look.map).forEach((value, number) => pixels.data.set([...data.heat[value], 255], 4 * number));
    pen.putImageData(pixels, 0, 0);
    look.heat = canvas;
  }
  return look.heat;
}

// One image large, under every run of the frame, with the map as strong as the slider says.
let enlarged = 0;

function enlarge(image) {
  enlarged = chosen.indexOf(image);
  const looks = control("large-looks");
  looks.replaceChildren(...shownRuns().filter((run) => image.looks[run]).map((run) => {
    const look = element("div", "", { class: "look", "data-run": run });
    look.append(element("canvas", "", { role: "img", "aria-label": image.id }), element("div"));
    return look;
  }));
  control("large-title").textContent = `${data.classes[image.label]}: ${named(image)}`;
  if (!control("large").open) control("large").showModal();
  drawLarge();
}

async function drawLarge() {
  const image = chosen[enlarged], photo = await photograph(image);
  for (const look of control("large-looks").children) {
    const run = Number(look.dataset.run), said = reading(image, run);
    paint(look.firstChild, photo, image, image.looks[run], said, control("opacity").value / 100);
    caption(look.lastChild, image, image.looks[run], run, said);
  }
}

const step = (by) => { if (chosen[enlarged + by]) enlarge(chosen[enlarged + by]); };
control("opacity").addEventListener("input", drawLarge);
control("previous").addEventListener("click", () => step(-1));
control("next").addEventListener("click", () => step(1));
control("large").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && event.target.type !== "range") step(by);
});
{
  const pen = control("colours").getContext("2d");
  for (let x = 0; x < 128; x++) {
    pen.fillStyle = `rgb(${data.heat[2 * x].join()})`;
    pen.fillRect(x, 0, 1, 10);
  }
}

// A review: images to drop, as `common.export --review` reads them.
const dropped = new Set();

function dropButton(image, figure) {
  const button = element("button", "", { type: "button", class: "drop" });
  const say = () => {
    button.textContent = dropped.has(named(image)) ? "keep" : "drop";
    button.setAttribute("aria-label", `${button.textContent} ${named(image)}`);
    figure.classList.toggle("dropped", dropped.has(named(image)));
  };
  button.addEventListener("click", () => {
    if (!dropped.delete(named(image))) dropped.add(named(image));
    say();
  });
  say();
  return button;
}

function save(name, type, content) {
  const link = element("a", "", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

control("save-review").addEventListener("click", () =>
  save("review.json", "application/json", JSON.stringify({ drop: [...dropped].sort() }, null, 1)));
control("reviewing").addEventListener("change", () => {
  control("save-review").hidden = !control("reviewing").checked;
  refill();
});

// What the gallery shows stands in the address, so that a link shows it again.
const KEPT = ["frame", "class", "judge", "outcome", "order", "find"];

function toAddress() {
  const said = new URLSearchParams();
  for (const id of KEPT) if (control(id).value !== opened[id]) said.set(id, control(id).value);
  data.runs.forEach((run, number) => { if (at[number] !== run.start) said.set(`t${number}`, run.thresholds[at[number]]); });
  history.replaceState(null, "", said.size ? `#gallery?${said}` : location.pathname + location.search);
}

function fromAddress() {
  const [, query] = location.hash.split("?");
  if (!query) return;
  const said = new URLSearchParams(query);
  data.runs.forEach((run, number) => { if (said.has(`t${number}`)) setThreshold(number, Number(said.get(`t${number}`))); });
  if (said.has("frame")) control("frame").value = said.get("frame");
  frameChanged();
  for (const id of KEPT) if (said.has(id)) control(id).value = said.get(id);
  refill();
  control("gallery").scrollIntoView();
}

function setThreshold(run, threshold) {
  const far = (step) => Math.abs(data.runs[run].thresholds[step] - threshold);
  at[run] = data.runs[run].thresholds.reduce((best, _, step) => (far(step) < far(best) ? step : best), 0);
}

let opened = {};

control("sliders").addEventListener("input", (event) => {
  const run = Number(event.target.dataset.run);
  at[run] = Number(event.target.value);
  tell(run);
  for (const figure of visible) draw(figure);
});
control("sliders").addEventListener("change", () => {
  if (control("outcome").value !== "all" || control("order").value !== "data") refill();
  toAddress();
});
control("frame").addEventListener("change", () => { frameChanged(); toAddress(); });
for (const id of ["class", "judge", "outcome", "order"]) control(id).addEventListener("change", () => { refill(); toAddress(); });
control("find").addEventListener("input", () => { refill(); toAddress(); });
control("heat").addEventListener("change", () => { for (const figure of visible) draw(figure); });
control("more").addEventListener("click", more);
control("controls").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("beforeprint", () => { for (const figure of document.querySelectorAll(".card")) draw(figure); });
window.addEventListener("hashchange", fromAddress);
fillControls();
opened = Object.fromEntries(KEPT.map((id) => [id, control(id).value]));
if (window.innerWidth < 700) control("filters").open = false;
fromAddress();

// Tables: sorted by a click on a head, saved as CSV, the best of a column marked; a class leads to its images.
const number = (cell) => parseFloat(cell.textContent.replace(/[^0-9.@+-].*|@.*/, ""));

function sortBy(head) {
  const table = head.closest("table"), column = [...head.parentNode.children].indexOf(head);
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.children[column], sign = down ? -1 : 1;
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const [a, b] = [number(key(one)), number(key(other))];
    if (Number.isNaN(a) || Number.isNaN(b)) {
      return Number.isNaN(a) && Number.isNaN(b) ? sign * key(one).textContent.localeCompare(key(other).textContent) : Number.isNaN(a) - Number.isNaN(b);
    }
    return sign * (a - b);
  });
  table.tBodies[0].append(...rows);
}

// A cell's parts, each in a column of its own, so that a reader of the file gets numbers. A cell may be `figure ±spread
// (low-high) @threshold`; `(+0.5)` is a difference that is not told apart, and `50.0 of 4` says how many images are counted.
const CELL = /^(\()?([+-]?\d[\d,]*(?:\.\d+)?)\)?(?: ±([\d.]+))?(?: \(([\d.]+)-([\d.]+)\))?(?: @([\d.e-]+))?(?: of (\d+))?$/;
const PARTS = ["", " told apart", " spread", " low", " high", " threshold", " images counted"];

function partsOf(text) {
  const [, bracket, value, ...others] = CELL.exec(text) ?? [];
  return [value?.replaceAll(",", ""), bracket && "no", ...others];
}

function csvColumn(cells) {
  const [head, ...texts] = cells.map((cell) => cell.textContent.trim());
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`, none = (text) => text === "" || text === "-";
  const numeric = cells[0].cellIndex > 0 && !texts.every(none) && texts.every((text) => none(text) || CELL.test(text));
  if (!numeric) return [[head, ...texts].map(quoted)];
  const rows = texts.map(partsOf), held = PARTS.map((_, part) => rows.some((row) => row[part] !== undefined));
  held[1] ||= rows.some((row) => /^[+-]/.test(row[0])); // differences have a sign
  if (held[1]) for (const row of rows) row[1] ??= row[0] && "yes";
  return PARTS.flatMap((part, at) => (held[at] ? [[quoted(head + part), ...rows.map((row) => row[at] ?? "")]] : []));
}

function asCsv(table) {
  const columns = [...table.rows[0].cells].flatMap((head) => csvColumn([...table.rows].map((row) => row.cells[head.cellIndex])));
  return columns[0].map((_, row) => columns.map((column) => column[row]).join(",")).join("\r\n") + "\r\n";
}

function markBest(table) {
  const judged = [...table.tBodies[0].rows].filter((row) => /^(released|validation|pseudo|stored)/.test(row.cells[1].textContent));
  for (let column = 2; column < table.rows[0].cells.length; column++) {
    const values = judged.map((row) => number(row.cells[column])), known = values.filter((value) => !Number.isNaN(value));
    const most = Math.max(...known), differ = most > Math.min(...known); // where all runs are equal, none is best
    judged.forEach((row, at) => row.cells[column].classList.toggle("top", differ && values[at] === most));
  }
}

for (const table of document.querySelectorAll("table.data")) {
  for (const head of table.tHead.rows[0].cells) head.firstChild.addEventListener("click", () => sortBy(head));
  const tools = table.closest(".scroll").previousElementSibling;
  tools.querySelector(".csv").addEventListener("click", () => save(`${table.dataset.name}.csv`, "text/csv", asCsv(table)));
  if (table.classList.contains("best")) markBest(table);
  if (table.dataset.name.startsWith("GT-known by class")) for (const row of table.tBodies[0].rows) linkClass(row.cells[0]);
}

function linkClass(cell) {
  const label = data.classes.indexOf(cell.textContent), button = element("button", cell.textContent, { type: "button", class: "jump" });
  if (![...control("class").options].some((option) => option.value === String(label))) return;
  button.addEventListener("click", () => {
    control("class").value = label;
    refill();
    toAddress();
    control("gallery").scrollIntoView();
  });
  cell.replaceChildren(button);
}

// Plots: the values of every curve under the pointer, or at the cursor that the arrow keys move.
function readChart(chart, share) {
  const { left, top, width, height, span } = Object.fromEntries(Object.entries(chart.dataset).map(([k, v]) => [k, Number(v)]));
  const x = left + width * Math.min(1, Math.max(0, share)), cursor = chart.querySelector(".cursor");
  cursor.removeAttribute("hidden");
  for (const [name, value] of [["x1", x], ["x2", x], ["y1", top], ["y2", top + height]]) cursor.setAttribute(name, value);
  const values = [...chart.querySelectorAll(".curve")].map((curve) => {
    const points = [...curve.points].map((point) => [point.x, point.y]);
    const nearest = points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
    return `${curve.dataset.label} ${(100 * (1 - (nearest[1] - top) / height)).toFixed(1)}`;
  });
  const name = chart.querySelector(".name").textContent;
  control("reading").textContent = `${name}, at ${((span * (x - left)) / width).toFixed(3)}: ${values.join("; ")}`;
}
for (const chart of document.querySelectorAll(".chart")) {
  const { left, width } = chart.dataset, place = { share: 0.5 };
  const move = (share) => readChart(chart, (place.share = share));
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    move((x - Number(left)) / Number(width));
  });
  const protocol = chart.dataset.protocol ?? chart.dataset.judged;
  const runs = data.runs.map((_, run) => run).filter((run) => data.runs[run].protocol === protocol);
  chart.classList.toggle("leads", runs.length > 0);
  const runOf = (mark) => runs.find((one) => data.runs[one].name === mark.dataset.run);
  const take = () => {
    if (!runs.length || !chart.dataset.protocol) return;
    for (const run of runs) setThreshold(run, place.share * Number(chart.dataset.span));
    lead(runs[0]);
  };
  const toMisses = (dot) => {
    const run = runOf(dot);
    if (run === undefined) return;
    if (chart.dataset.protocol) setThreshold(run, Number(dot.dataset.x));
    lead(run, "miss");
  };
  chart.addEventListener("click", (event) => {
    const dot = event.target.closest("[data-run]");
    if (dot) toMisses(dot);
    else take();
  });
  chart.addEventListener("keydown", (event) => {
    if (event.key === "Enter") take();
    const by = { ArrowLeft: -0.01, ArrowRight: 0.01 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(Math.min(1, Math.max(0, place.share + by)));
  });
  const marks = [...chart.querySelectorAll("[data-run]")];
  for (const mark of marks) sayWhere(mark, runOf(mark) !== undefined);
  reachByKeys(chart, marks.filter((mark) => mark.matches(".curve + .dot.leads")), toMisses);
}

// A dot, or its run's name in the legend, says whether it leads anywhere.
function sayWhere(mark, leads) {
  const title = mark.querySelector("title") ?? mark.appendChild(document.createElementNS(mark.namespaceURI, "title"));
  const where = leads ? "Leads to the images that this run misses here." : "No link: the gallery does not judge this run by this protocol.";
  title.textContent = title.textContent ? `${title.textContent}. ${where}` : where;
  mark.classList.toggle("leads", leads);
}

// Dots that lead somewhere are one stop of the Tab key in each plot; arrow keys go from dot to dot, Enter leads.
function reachByKeys(chart, dots, go) {
  if (!dots.length) return;
  chart.setAttribute("role", "group"); // an image hides what is in it
  for (const part of chart.children) if (!dots.includes(part)) part.setAttribute("aria-hidden", "true");
  dots.forEach((dot, number) => {
    const name = dot.querySelector("title").textContent;
    for (const [key, value] of [["role", "link"], ["tabindex", number ? -1 : 0], ["aria-label", name]]) dot.setAttribute(key, value);
    const to = { ArrowRight: number + 1, ArrowDown: number + 1, ArrowLeft: number - 1, ArrowUp: number - 1, Home: 0, End: dots.length - 1 };
    dot.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && to[event.key] === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key === "Enter") go(dot);
      else dots[to[event.key]]?.focus();
    });
    dot.addEventListener("focus", () => dots.forEach((one) => one.setAttribute("tabindex", one === dot ? 0 : -1)));
  });
}

// To the gallery, in a run's frame; with an outcome, to the images of all classes that have it under this run.
function lead(run, outcome) {
  control("frame").value = data.runs[run].frame;
  if (outcome) {
    control("outcome").value = outcome;
    control("class").value = control("find").value = "";
  }
  frameChanged(run);
  toAddress();
  control("gallery").scrollIntoView();
  control("gallery").focus({ preventScroll: true });
}

for (const figure of document.querySelectorAll(".plot")) {
  const chart = figure.querySelector("svg");
  figure.querySelector(".svg").addEventListener("click", () => save(`${nameOf(chart)}.svg`, "image/svg+xml", standalone(chart)));
  figure.querySelector(".png").addEventListener("click", () => savePng(chart));
}

// A plot as a file of its own: what the style sheet says of it is written into it.
const nameOf = (chart) => chart.querySelector(".name").textContent;

function standalone(chart) {
  const copy = chart.cloneNode(true);
  copy.querySelector(".cursor")?.remove();
  for (const part of copy.querySelectorAll("*")) for (const name of ["aria-hidden", "role", "tabindex", "aria-label"]) part.removeAttribute(name);
  copy.setAttribute("role", "img");
  const style = document.createElementNS(chart.namespaceURI, "style");
  style.textContent = "svg{background:#fff;font:10px sans-serif}.name{font-size:12px;font-weight:600}polyline{fill:none}" +
    ".grid{stroke:#d6d3d1;stroke-width:.6}.flat{stroke:#57534e;stroke-dasharray:4 3}.curve{stroke-width:1.8}" +
    ".curve.again{stroke-dasharray:6 3}.dot{stroke-width:0}.dot.again{fill-opacity:0;stroke-width:1.8}.whisker{stroke:#1c1917}";
  copy.prepend(style);
  return new XMLSerializer().serializeToString(copy);
}

async function savePng(chart) {
  const { width, height } = chart.viewBox.baseVal, picture = new Image(), canvas = document.createElement("canvas");
  picture.src = `data:image/svg+xml,${encodeURIComponent(standalone(chart))}`;
  await picture.decode();
  canvas.width = 3 * width;
  canvas.height = 3 * height;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((content) => save(`${nameOf(chart)}.png`, "image/png", content));
}
