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

const frames = [...new Set(data.runs.map((run) => run.frame))];
const shownRuns = () => data.runs.map((_, run) => run).filter((run) => data.runs[run].frame === control("frame").value);
const judge = () => Number(control("judge").value);

function fillControls() {
  for (const frame of frames) control("frame").add(new Option(frame, frame));
  data.classes.forEach((name, label) => {
    if (data.images.some((image) => image.label === label)) control("class").add(new Option(name, label));
  });
  frameChanged();
}

function frameChanged() {
  const runs = shownRuns(), sliders = control("sliders");
  control("judge").replaceChildren(...runs.map((run) => new Option(data.runs[run].name, run)));
  sliders.replaceChildren();
  for (const run of runs) {
    const fields = data.runs[run], label = element("label", fields.name);
    const slider = element("input", "", { type: "range", min: 0, max: fields.thresholds.length - 1, step: 1, "data-run": run,
                                          "aria-label": `threshold of ${fields.name}` });
    slider.value = at[run];
    slider.disabled = fields.thresholds.length < 2;
    label.append(slider, element("output", "", { "data-run": run }));
    sliders.append(label);
    tell(run);
  }
  const width = Math.min(1200, 20 + 165 * runs.length);
  control("cards").style.setProperty("--card-width", `${Math.max(300, width)}px`);
  refill();
}

// A run's threshold, and its hits among all images, those without a picture too.
function tell(run) {
  const fields = data.runs[run], step = at[run], threshold = fields.thresholds[step];
  const words = fields.protocol
    ? `${threshold.toFixed(3)}: ${fields.hits[Math.min(step, fields.hits.length - 1)]} of ${fields.counted[Math.min(step, fields.counted.length - 1)]} hit`
    : "no ground truth";
  const from = step === fields.start && fields.protocol ? ` (${fields.source})` : "";
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
    if (outcome === "differ") return new Set(runs.map((run) => reading(image, run)?.hit)).size > 1;
    const hit = reading(image, by)?.hit;
    return outcome === "all" || (outcome === "hit" ? hit === true : hit === false);
  };
  chosen = data.images.filter(wanted);
  const order = control("order").value;
  if (order !== "data") {
    const sign = order === "worst" ? 1 : -1, score = (image) => reading(image, by)?.iou ?? NaN;
    const rank = (image) => (Number.isNaN(score(image)) ? 2 : sign * score(image));
    chosen.sort((one, other) => rank(one) - rank(other));
  }
  shown = 0;
  control("cards").replaceChildren();
  control("count").textContent = `${chosen.length} of ${data.images.length} pictured images`;
  more();
}

function more() {
  for (const image of chosen.slice(shown, shown + PAGE)) control("cards").append(card(image));
  shown = Math.min(chosen.length, shown + PAGE);
  control("more").hidden = shown >= chosen.length;
}

function card(image) {
  const figure = element("figure", "", { class: "card" }), looks = element("div", "", { class: "looks" });
  figure.append(element("figcaption", `${data.classes[image.label]}: ${image.id}`), looks);
  for (const run of shownRuns()) {
    if (!image.looks[run]) continue;
    const look = element("div", "", { class: "look", "data-run": run });
    look.append(element("canvas", "", { role: "img" }), element("div"));
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
    paint(look.firstChild, photo, image, image.looks[run], said);
    caption(look.lastChild, image, image.looks[run], run, said);
  }
}

function caption(line, image, look, run, said) {
  const verdict = element("span", said.words, { class: said.words });
  const iou = Number.isNaN(said.iou) ? "" : `, IoU ${said.iou.toFixed(2)}`;
  const wrong = look.predicted !== null && look.predicted !== image.label;
  const taken = wrong ? `, taken for ${data.classes[look.predicted] ?? `class ${look.predicted}`}` : "";
  line.replaceChildren(element("b", data.runs[run].name), document.createTextNode(" "), verdict, document.createTextNode(iou + taken));
  const place = said.box ? `box ${Array.from(said.box).join(" ")} in the frame` : "no box";
  line.previousSibling.setAttribute("aria-label", `${image.id} under ${data.runs[run].name}: ${said.words}${iou}, ${place}`);
  line.parentNode.dataset.box = said.box ? Array.from(said.box).join(" ") : "";
}

function paint(canvas, photo, image, look, said) {
  const width = (canvas.width = photo.naturalWidth), height = (canvas.height = photo.naturalHeight);
  const pen = canvas.getContext("2d"), [resizedWidth, resizedHeight, x, y, w, h] = look.frame;
  const inPicture = (box) => [(box[0] + x) * width / resizedWidth, (box[1] + y) * height / resizedHeight,
                              (box[2] + x) * width / resizedWidth, (box[3] + y) * height / resizedHeight];
  pen.drawImage(photo, 0, 0);
  const [left, top, right, bottom] = inPicture([0, 0, w, h]);
  if (control("heat").checked && look.map) {
    pen.globalAlpha = 0.55;
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

control("sliders").addEventListener("input", (event) => {
  const run = Number(event.target.dataset.run);
  at[run] = Number(event.target.value);
  tell(run);
  for (const figure of visible) draw(figure);
});
control("sliders").addEventListener("change", () => {
  if (control("outcome").value !== "all" || control("order").value !== "data") refill();
});
control("frame").addEventListener("change", frameChanged);
for (const id of ["class", "judge", "outcome", "order"]) control(id).addEventListener("change", refill);
control("find").addEventListener("input", refill);
control("heat").addEventListener("change", () => { for (const figure of visible) draw(figure); });
control("more").addEventListener("click", more);
control("controls").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("beforeprint", () => { for (const figure of document.querySelectorAll(".card")) draw(figure); });
fillControls();

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
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.01, ArrowRight: 0.01 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(Math.min(1, Math.max(0, place.share + by)));
  });
}
