// The static twin: the page's own numbers, drawn anew when a patch or a layer is chosen.
const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.body.classList.toggle("dark", dark.matches);
dark.addEventListener("change", dress);
dress();

const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.getElementById("layer");
const boards = [...document.querySelectorAll("#boards .board")];
let point = null;

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Int8Array(await new Response(stream).arrayBuffer());
}

function loaded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
}

async function prepare(model) {
  const numbers = await unpacked(model.numbers), patches = model.rows * model.columns;
  let start = 0;
  model.sites = model.widths.map((width) => numbers.subarray(start, (start += width * patches)));
  for (const kind of Object.keys(model.tiles)) model.tiles[kind] = await loaded(model.tiles[kind]);
}

// cosines of one patch with all: products of rows of whole numbers times the scale of each column
function cosines(model, site, patch) {
  const width = model.widths[site], numbers = model.sites[site], patches = model.rows * model.columns;
  const query = model.scales[site].map((scale, i) => scale * scale * numbers[patch * width + i]);
  const values = new Float32Array(patches);
  for (let p = 0; p < patches; p++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += query[i] * numbers[p * width + i];
    values[p] = Math.min(1, Math.max(-1, sum));
  }
  values[patch] = 1;
  return values;
}

function canvas(model, draw) {
  const element = document.createElement("canvas");
  element.width = model.columns;
  element.height = model.rows;
  draw(element.getContext("2d"));
  return element.toDataURL();
}

function painted(model, values) {
  const low = Math.min(...values), high = Math.max(...values), span = high > low ? high - low : 1;
  return canvas(model, (context) => {
    const image = context.createImageData(model.columns, model.rows);
    values.forEach((value, p) => {
      const color = 3 * Math.min(255, Math.floor((256 * (value - low)) / span));
      image.data.set([...data.viridis.slice(color, color + 3), 255], 4 * p);
    });
    context.putImageData(image, 0, 0);
  });
}

const number = (value) => value.toFixed(2).replace("-", "−");

function show(board, model) {
  const layer = Math.min(+slider.value, model.depth);
  board.querySelector(".layer").textContent = layer;
  board.querySelectorAll(".mark").forEach((mark) => {
    const [low, high] = mark.dataset.span.split(" ").map(Number);
    mark.style.left = low + ((high - low) * (layer - 0.6)) / (model.depth - 0.2) + "%";
  });
  const ring = board.querySelector(".photo .ring");
  const [y, x] = point || [parseFloat(ring.style.top) / 100, parseFloat(ring.style.left) / 100];
  const patch = Math.floor(y * model.rows) * model.columns + Math.floor(x * model.columns);
  board.querySelectorAll("[data-kind]").forEach((map) => {
    const feature = data.features.indexOf(map.dataset.name), image = map.querySelector("img");
    const caption = map.parentElement.querySelector("figcaption");
    if (map.dataset.kind === "similarity") {
      const values = cosines(model, 3 * (layer - 1) + feature, patch);
      image.src = painted(model, values);
      caption.textContent = `cosine ${number(Math.min(...values))} … ${number(Math.max(...values))}`;
      return;
    }
    const { rows, columns } = model;
    image.src = canvas(model, (context) =>
      context.drawImage(model.tiles[map.dataset.kind], columns * feature, rows * (layer - 1), columns, rows, 0, 0, columns, rows));
    if (map.dataset.kind === "norm") caption.textContent = model.captions[layer - 1][feature];
  });
}

function redraw() {
  document.getElementById("shown").textContent = slider.value;
  boards.forEach((board, i) => show(board, data.models[i]));
}

Promise.all(data.models.map(prepare)).then(() => {
  slider.addEventListener("input", redraw);
  listen(document.getElementById("boards"), (y, x) => {
    point = [y, x];
    redraw();
  });
  document.body.dataset.ready = "yes";
});
const opacity = document.getElementById("opacity");
if (opacity) opacity.addEventListener("input", () => document.documentElement.style.setProperty("--opacity", opacity.value));
