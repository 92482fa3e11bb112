// Before anything is drawn: the look that was chosen last, else that of the system.
"use strict";
try {
  const chosen = localStorage.getItem("hatrix-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage is forbidden: the system decides
}
