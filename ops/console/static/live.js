// The page's own part of the console: sends what a person does, and patches in what the server renders.
// Patching in place keeps focus, selection, scroll and hover; nothing is decided here.
(() => {
  "use strict";
  const AGAIN_MS = [300, 700, 1500, 3000];
  let socket = null, tries = 0;

  // ---- out: a verb and a few texts -------------------------------------------------------------------------------
  const waiting = new Map();  // floods: at most one of a kind per frame of 40 ms
  let flushing = 0;

  function send(verb, fields) {
    if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ ...fields, do: verb }));
  }

  function sendSoon(verb, fields) {
    waiting.set(verb, fields);
    if (flushing) return;
    flushing = setTimeout(() => {
      flushing = 0;
      for (const [one, its] of waiting) send(one, its);
      waiting.clear();
    }, 40);
  }

  const fieldsOf = (element) => {
    const { do: _, ...fields } = element.dataset;
    return fields;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do], a[data-do]");
    if (!button || button.disabled) return;
    if (button.matches("a")) {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
    }
    send(button.dataset.do, fieldsOf(button));
    if (button.dataset.close) document.getElementById(button.dataset.close)?.close();
  });

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) document.getElementById(opener.dataset.open)?.showModal();
    const closer = event.target.closest("[data-shut]");
    if (closer) closer.closest("dialog")?.close();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-do]");
    if (!form) return;
    event.preventDefault();
    for (const [verb] of waiting) waiting.delete(verb);
    send(form.dataset.do, { ...fieldsOf(form), ...Object.fromEntries(new FormData(form)) });
    if (form.dataset.clear) form.reset();
    form.closest("dialog")?.close();
  });

  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, (event) => {
      const input = event.target;
      if (input.dataset.on !== kind || !input.dataset.do) return;
      const value = input.type === "checkbox" ? String(input.checked) : input.value;
      sendSoon(input.dataset.do, { ...fieldsOf(input), value });
    });
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]), textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      const search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
    // up and down through a list of links, as through a menu
    const item = event.target.closest("[data-list] a, [data-search]");
    if (item && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const links = [...document.querySelectorAll("[data-list] a")];
      if (!links.length) return;
      const at = links.indexOf(item) + (event.key === "ArrowDown" ? 1 : -1);
      event.preventDefault();
      if (at < 0) document.querySelector("[data-search]")?.focus();
      else (links[at] || links[links.length - 1]).focus();
    }
  });

  // ---- in: regions as HTML ---------------------------------------------------------------------------------------
  function patch(from, to) {
    const old = [...from.childNodes], fresh = [...to.childNodes];
    fresh.forEach((node, index) => {
      const mine = old[index];
      if (!mine) from.append(node);
      else if (!alike(mine, node)) mine.replaceWith(node);
      else if (mine.nodeType !== Node.ELEMENT_NODE) {
        if (mine.data !== node.data) mine.data = node.data;
      } else if (!mine.isEqualNode(node)) patchElement(mine, node);
    });
    old.slice(fresh.length).forEach((node) => node.remove());
  }

  const alike = (one, other) =>
    one.nodeType === other.nodeType && one.nodeName === other.nodeName && one.id === other.id;

  function patchElement(mine, fresh) {
    const said = mine.getAttribute("value"), says = fresh.getAttribute("value");
    for (const { name } of [...mine.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && mine.matches("dialog, details"))) mine.removeAttribute(name);
    }
    for (const { name, value } of [...fresh.attributes]) {
      if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
    }
    // what a person is moving or typing is theirs, and stays so until the server says something else
    if (mine.matches("input") && says !== said && mine !== document.activeElement && mine.dataset.keep === undefined) {
      mine.value = says ?? "";
    }
    if (mine.matches("time[data-ago]")) { mine.textContent = fresh.textContent; tell(mine); return; }
    patch(mine, fresh);
  }

  function receive(message) {
    for (const [name, html] of Object.entries(message.regions || {})) {
      const region = document.getElementById(`region-${name}`);
      if (!region) continue;
      const template = document.createElement("template");
      template.innerHTML = html;
      patch(region, template.content);
      region.querySelectorAll("time[data-ago]").forEach(tell);
    }
    if (message.address) history.replaceState(null, "", message.address);
  }

  // ---- times -----------------------------------------------------------------------------------------------------
  const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

  function tell(time) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const size = Math.abs(seconds);
    let text = "now";
    if (size >= 1) {
      const [, unit, word] = STEPS.find(([limit]) => size < limit);
      text = seconds > 0 ? `${Math.floor(size / unit)} ${word} ago` : `in ${Math.floor(size / unit)} ${word}`;
    }
    if (time.textContent !== text) time.textContent = text;
  }

  const tellAll = () => document.querySelectorAll("time[data-ago]").forEach(tell);
  setInterval(tellAll, 1000);
  tellAll();

  // ---- the connection --------------------------------------------------------------------------------------------
  function connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/live${location.pathname}${location.search}`);
    socket.onopen = () => { tries = 0; document.body.dataset.connected = "yes"; };
    socket.onmessage = (event) => receive(JSON.parse(event.data));
    socket.onclose = () => {
      document.body.dataset.connected = "no";
      const wait = AGAIN_MS[Math.min(tries++, AGAIN_MS.length - 1)];
      // a session that has ended is seen by the page, not by the socket
      setTimeout(() => (tries === 3 ? whole() : connect()), wait);
    };
  }

  async function whole() {
    try {
      const answer = await fetch(location.href, { redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") { location.reload(); return; }
    } catch { /* the console is away: go on trying */ }
    connect();
  }

  if (document.body.dataset.live !== undefined) connect();

  // ---- light and dark --------------------------------------------------------------------------------------------
  document.getElementById("theme")?.addEventListener("change", (event) => {
    const theme = event.target.value;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    document.cookie = `tagstream-theme=${theme}; path=/; max-age=${theme ? 31536000 : 0}; samesite=lax`;
  });
})();
