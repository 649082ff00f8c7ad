// What the first page is made of and others share. The build gives it to every page, so that it is one file: each more is a trip more.
import "./api/live";
import "./chart/trend";
import "./pages/page";
import "./ui/tile";
