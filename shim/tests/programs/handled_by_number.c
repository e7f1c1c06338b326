#include "by_number.h"
#include "handled.c"
