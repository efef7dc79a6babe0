"use strict";
// The system decides between light and dark until the button is pressed.
(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.style.colorScheme ? root.style.colorScheme === "dark" : system.matches);
  const tell = () => document.dispatchEvent(new CustomEvent("themechange"));
  document.getElementById("theme").addEventListener("click", () => {
    root.style.colorScheme = dark() ? "light" : "dark";
    tell();
  });
  system.addEventListener("change", tell);
})();
