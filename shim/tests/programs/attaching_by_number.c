#include "by_number.h"
#include "attaching.c"
