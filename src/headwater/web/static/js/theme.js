// Applies the remembered colour scheme before the first paint. Loaded in <head> without `defer` for that reason.
(function () {
  "use strict";
  try {
    const theme = localStorage.getItem("headwater-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (error) {
    // Storage is switched off in this browser: the system's scheme applies.
  }
})();
