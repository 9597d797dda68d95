"use strict";
const geometry = JSON.parse(document.getElementById("geometry").textContent);
const player = document.getElementById("player");
const timeline = document.getElementById("timeline");
const scroll = document.getElementById("scroll");
const cursor = document.getElementById("cursor");
const share = geometry.right - geometry.left;
function show() {
  const at = geometry.left + share * Math.min(1, player.currentTime / geometry.seconds);
  cursor.hidden = false;
  cursor.style.left = at * 100 + "%";
  const x = at * timeline.clientWidth;
  if (!player.paused && (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth - 40)) scroll.scrollLeft = x - 40;
  if (!player.paused) requestAnimationFrame(show);
}
function seek(seconds) {
  player.currentTime = Math.max(0, Math.min(geometry.seconds, seconds));
  show();
}
timeline.addEventListener("click", (event) => {
  const box = timeline.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width - geometry.left) / share * geometry.seconds);
});
scroll.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (step) { event.preventDefault(); seek(player.currentTime + step); }
});
for (const button of document.querySelectorAll("button.at"))
  button.addEventListener("click", () => { seek(Number(button.dataset.s)); player.play(); });
for (const name of ["play", "seeked", "timeupdate"]) player.addEventListener(name, show);
