"use strict";
// The preview page: results come as server-sent events, the picture as MJPEG, and check-boxes choose tasks.

const byId = (id) => document.getElementById(id);
const HISTORY = 240; // frames in the sparkline and in the counts
const QUIET_MS = 2500; // after this long without a frame, the picture counts as old
const MOST = 6; // most bars or chips of a result

const past = []; // { us, budget, missed, at }
let tasks = []; // names in the order of the network
let chosen = null; // names of the tasks of the newest frame
let wanted = null; // requested names that no frame has confirmed yet
let latest = null; // names of the last request
let sending = Promise.resolve(); // ends when the last request has been answered
let newest = null; // the newest event
let lastAt = 0; // time of its arrival
let drawing = false;

const ms = (us) => (us / 1000).toFixed(us < 99950 ? 1 : 0);
const percent = (share) => `${Math.round(share * 100)} %`;
const words = (name) => name.replaceAll("_", " ");

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- the results of the tasks

function bars(pairs) {
  const list = element("div", "bars");
  for (const [name, share] of pairs) {
    const row = element("div", "bar");
    const meter = element("meter");
    meter.value = share;
    row.append(element("span", "", words(name)), meter, element("b", "", percent(share)));
    list.append(row);
  }
  return list;
}

function largest(pairs, least) {
  return pairs.filter(([, share]) => share >= least).sort((a, b) => b[1] - a[1]).slice(0, MOST);
}

const views = {
  age: (answer) => [`${answer.years.toFixed(0)} years `, element("small", "", `± ${answer.std.toFixed(0)}`)],
  expression: (answer) => [bars(largest(Object.entries(answer.scores), 0.03))],
  attributes: (answer) => {
    const chips = element("div", "chips");
    for (const [name] of largest(Object.entries(answer), 0.5)) chips.append(element("span", "", words(name)));
    return chips.childElementCount ? [chips] : [element("small", "", "none of them likely")];
  },
  landmarks: (answer) => [`${answer.points.length} points `, element("small", "", "drawn on the picture")],
  parsing: (answer) => [bars(largest(answer.classes.map((name, i) => [name, answer.share[i]]), 0.01))],
  recognition: (answer) =>
    answer.name === null
      ? [`${answer.embedding.length} numbers `, element("small", "", "no gallery")]
      : [`${answer.name} `, element("small", "", percent(answer.similarity))],
};

function faceCard(face) {
  const card = element("div", "face");
  const [x, y, width, height] = face.box;
  const title = element("h3", "", `Face ${face.id}`);
  title.append(element("span", "", `${percent(face.score)} · ${width.toFixed(0)} × ${height.toFixed(0)} px · at ${x.toFixed(0)}, ${y.toFixed(0)}`));
  const doubts = face.quality ? face.quality.why : [];
  if (doubts.length > 0) title.append(element("span", "doubt", doubts.map(words).join(", ")));
  const table = element("table");
  for (const task of tasks) {
    if (!chosen.includes(task.name)) continue;
    const row = element("tr");
    row.dataset.task = task.name;
    const head = element("th", "", words(task.name));
    const cell = element("td");
    const answer = face[task.name];
    const stale = (face.stale_frames || {})[task.name] || 0;
    if (stale > 0) {
      row.className = "stale";
      const mark = element("span", "age-mark", `${stale} frame${stale === 1 ? "" : "s"} old`);
      mark.title = "There was no time for this task since.";
      head.append(mark);
    }
    if (answer === undefined) cell.append(element("small", "", "not decoded yet"));
    else cell.append(...views[task.kind](answer));
    row.append(head, cell);
    table.append(row);
  }
  card.append(title, table);
  return card;
}

// ---- the check-boxes

function buildTasks() {
  byId("tasks").replaceChildren(...tasks.map(({ name }) => {
    const label = element("label");
    label.dataset.task = name;
    const box = element("input");
    box.type = "checkbox";
    box.name = name;
    box.disabled = true;
    box.addEventListener("change", choose);
    label.append(box, element("span", "name", words(name)), element("span", "cost"));
    return label;
  }));
}

const boxes = () => [...document.querySelectorAll("#tasks input")];

function choose(event) {
  // The order of the list is the order of priority: running tasks keep their place, new ones go last.
  const checked = boxes().filter((box) => box.checked).map((box) => box.name);
  const base = wanted || chosen || [];
  const list = [...base.filter((name) => checked.includes(name)), ...checked.filter((name) => !base.includes(name))];
  wanted = latest = list;
  event.target.closest("label").classList.add("pending");
  // One request at a time: otherwise requests could arrive in another order.
  sending = sending.then(() => (latest === list ? send(list) : undefined));
}

async function send(list) {
  const error = byId("task-error");
  try {
    const answer = await fetch("tasks", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ tasks: list }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error);
    error.hidden = true;
    // If the loop does not take the request, the boxes show its tasks again.
    setTimeout(() => { if (wanted === list) wanted = null; }, 3000);
  } catch (reason) {
    if (wanted === list) wanted = null;
    error.textContent = `The tasks were not changed: ${reason.message}`;
    error.hidden = false;
  }
}

function showTasks(frame) {
  const same = (a, b) => a.length === b.length && a.every((name) => b.includes(name));
  if (wanted && same(wanted, chosen)) wanted = null;
  const deferred = frame.deadline ? frame.deadline.deferred : [];
  for (const box of boxes()) {
    const label = box.closest("label");
    const running = chosen.includes(box.name);
    box.disabled = false;
    if (!wanted) box.checked = running;
    label.classList.toggle("pending", wanted !== null && box.checked !== running);
    const put = running && deferred.includes(box.name);
    label.classList.toggle("deferred", put);
    const us = frame.timing_us.decode[box.name];
    const cost = !running ? "" : put ? "deferred" : us ? `${ms(us)} ms` : "";
    label.querySelector(".cost").textContent = cost;
  }
}

// ---- frame rate and frame times

function showPace(event) {
  const { frame } = event;
  const used = frame.deadline ? frame.deadline.used_us : frame.timing_us.total;
  const budget = frame.deadline ? frame.deadline.budget_us : 0;
  past.push({ us: used, budget, missed: Boolean(frame.deadline && frame.deadline.missed), at: frame.captured_us, number: frame.frame });
  if (past.length > HISTORY) past.shift();
  const earlier = past[Math.max(0, past.length - 31)];
  // The rate comes from frame numbers, because this page may not get every frame.
  const [span, count] = [frame.captured_us - earlier.at, frame.frame - earlier.number];
  byId("rate").textContent = span > 0 && count > 0 ? ((count * 1e6) / span).toFixed(1) : "–";
  byId("used").textContent = ms(used);
  byId("budget").textContent = budget ? ms(budget) : "none";
  byId("budget").nextElementSibling.hidden = !budget;
  for (const key of document.querySelectorAll(".key.missed, .key.budget")) key.hidden = !budget;
  byId("delay").textContent = ms(event.delay_us);
  const missed = past.filter((one) => one.missed).length;
  byId("missed").textContent = missed;
  byId("missed").parentElement.classList.toggle("bad", missed > 0);
  byId("counted").textContent = past.length;
}

function drawSpark() {
  const canvas = byId("spark");
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== width * scale || canvas.height !== height * scale) {
    canvas.width = width * scale;
    canvas.height = height * scale;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name);
  const budget = past.length ? past[past.length - 1].budget : 0;
  // Outliers are cut off, with a bright cap, so that they do not flatten the rest.
  const sorted = past.map((one) => one.us).sort((a, b) => a - b);
  const usual = sorted[Math.floor(0.97 * (sorted.length - 1))] || 0;
  const top = Math.max(1000, budget, usual) * 1.25;
  const y = (us) => height - 1 - Math.min(us / top, 1) * (height - 2);
  const step = width / HISTORY;
  pen.font = `10px ${colour("--mono")}`;
  // Grid lines at round times.
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  const unit = steps.find((value) => top / 1000 / value <= 4) || 10000;
  for (let value = unit; value * 1000 < top; value += unit) {
    pen.fillStyle = colour("--line");
    pen.fillRect(0, Math.round(y(value * 1000)), width, 1);
  }
  const from = HISTORY - past.length;
  past.forEach((one, index) => {
    pen.fillStyle = colour(one.missed ? "--bad" : "--blue");
    pen.fillRect((from + index) * step, y(one.us), Math.max(1, step - 1), height - y(one.us));
    if (one.us > top) {
      pen.fillStyle = colour("--ink");
      pen.fillRect((from + index) * step, 0, Math.max(1, step - 1), 3);
    }
  });
  if (budget) {
    pen.strokeStyle = colour("--warn");
    pen.setLineDash([5, 4]);
    pen.beginPath();
    pen.moveTo(0, Math.round(y(budget)) + 0.5);
    pen.lineTo(width, Math.round(y(budget)) + 0.5);
    pen.stroke();
    pen.setLineDash([]);
  }
  pen.strokeStyle = colour("--panel");
  pen.fillStyle = colour("--ink");
  pen.lineWidth = 3;
  for (let value = unit; value * 1000 < top; value += unit) {
    pen.strokeText(`${value} ms`, 2, y(value * 1000) - 2);
    pen.fillText(`${value} ms`, 2, y(value * 1000) - 2);
  }
  pen.lineWidth = 1;
}

// ---- the whole page

function render() {
  drawing = false;
  if (!newest) return;
  const { frame } = newest;
  showTasks(frame);
  byId("count").textContent = frame.faces.length;
  byId("no-face").hidden = frame.faces.length > 0;
  byId("faces").replaceChildren(...frame.faces.map(faceCard));
  drawSpark();
}

function link(state, text) {
  byId("link").className = `link ${state}`;
  byId("link-text").textContent = text;
}

function picture(state, why) {
  byId("picture").classList.toggle("old", state !== "live");
  document.querySelector("main").classList.toggle("old", state === "old");
  if (state !== "live") boxes().forEach((box) => { box.disabled = true; });
  byId("no-picture").hidden = state === "live";
  byId("no-picture").firstElementChild.textContent = state === "old" ? "The picture stands still" : "No picture yet";
  byId("no-picture-why").textContent = why || "";
}

function openPicture() {
  const image = byId("picture");
  image.hidden = false;
  image.src = `stream.mjpg?${Date.now()}`;
}

function onFrame(message) {
  newest = JSON.parse(message.data);
  chosen = newest.chosen;
  lastAt = performance.now();
  link("live", "live");
  picture("live");
  showPace(newest);
  if (!drawing) {
    drawing = true;
    requestAnimationFrame(render);
  }
}

function connect() {
  const events = new EventSource("events");
  events.onopen = () => { link("wait", "waiting for frames"); openPicture(); };
  events.onmessage = onFrame;
  events.addEventListener("end", () => {
    link("lost", "the run has ended");
    picture("old", "The run has ended.");
  });
  events.onerror = () => {
    if (performance.now() - lastAt > 1000) {
      link("lost", "no connection");
      picture(newest ? "old" : "none", "The program does not answer. This page keeps trying.");
    }
  };
  setInterval(() => {
    if (newest && events.readyState === EventSource.OPEN && performance.now() - lastAt > QUIET_MS) {
      const seconds = Math.round((performance.now() - lastAt) / 1000);
      link("wait", `no frame for ${seconds} s`);
      picture("old", "The source gives no frames. The camera may be away.");
    }
  }, 500);
}

async function start() {
  try {
    const state = await (await fetch("state")).json();
    byId("source").textContent = state.source;
    tasks = state.tasks;
    buildTasks();
    drawSpark();
    connect();
  } catch {
    link("lost", "no connection");
    setTimeout(start, 1000);
  }
}

window.addEventListener("resize", drawSpark);
start();
